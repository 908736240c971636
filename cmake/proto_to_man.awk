# bgfs-config(5) from the comments of bgfs.proto: what stands before a message or
# a field is its text.
function troff(text) {
  gsub(/\\/, "\\e", text)
  gsub(/-/, "\\-", text)
  if (text ~ /^[.']/) text = "\\&" text
  return text
}
function flush_text(  i) {
  for (i = 1; i <= count; ++i) print comment[i] == "" ? ".PP" : comment[i]
  count = 0
}
BEGIN {
  print ".TH BGFS-CONFIG 5 \"\" bgfs"
  print ".SH NAME\nbgfs\\-config \\- which images bgfs opens, and what it shows"
  print ".SH DESCRIPTION"
}
/^[ ]*\/\// {
  line = $0
  sub(/^ *\/\/ ?/, "", line)
  # What is set off is an example.
  example = line ~ /^ /
  comment[++count] = example ? ".nf\n" troff(line) "\n.fi" : troff(line)
  next
}
/^syntax/ { flush_text(); next }
/^package/ || /^import/ || /^$/ { if ($0 == "" && top) count = 0; next }
/^message / {
  top = 1
  print ".SH " toupper($2)
  flush_text()
  next
}
/^ +(optional|repeated) / || /^ +[A-Za-z.]+ [a-z_0-9]+ = [0-9]+;/ {
  field = $0
  sub(/^ +/, "", field)
  sub(/ = [0-9]+/, "", field)
  sub(/;.*$/, "", field)
  print ".TP\n\\fB" troff(field) "\\fR"
  if (count == 0) print "\\&"
  flush_text()
  next
}
/^ +[A-Z_0-9]+ = [0-9]+;/ {
  print ".TP\n\\fB" troff($1) "\\fR"
  if (count == 0) print "\\&"
  flush_text()
  next
}
/^ +oneof / { print ".PP\nOne of these:"; flush_text(); next }
{ count = 0 }
END { print ".SH SEE ALSO\nbgfs(1), bgfs\\-serve(1), bgfs\\-check\\-config(1)" }
