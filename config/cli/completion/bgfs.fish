# fish completion for bgfs(1). bgfs itself tells what there is.
function __bgfs_words
    set -l before (commandline -opc)
    if test (count $before) -eq 1
        echo help
        bgfs help --words 2>/dev/null
    else
        bgfs help --words $before[2..3] 2>/dev/null
    end
end
complete -c bgfs -a '(__bgfs_words)'
