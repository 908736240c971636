# Run by `cmake --install`: what the prefix decides, which is known only then.
# mount(8) looks for its helpers in /sbin, so `--prefix /usr` is what makes them
# found.
set(root "$ENV{DESTDIR}${CMAKE_INSTALL_PREFIX}")

file(MAKE_DIRECTORY "${root}/sbin")
foreach(helper mount.fuse.bgfs mount.bgfs umount.fuse.bgfs)
  message(STATUS "Installing: ${root}/sbin/${helper}")
  file(CREATE_LINK ../bin/bgfs "${root}/sbin/${helper}" SYMBOLIC)
endforeach()

set(unit "${root}/lib/systemd/system/bgfs@.service")
message(STATUS "Installing: ${unit}")
configure_file("${CMAKE_CURRENT_LIST_DIR}/bgfs@.service.in" "${unit}" @ONLY)

# The pages of man(1): each verb prints its own.
set(bgfs "${root}/bin/bgfs")
set(man "${root}/share/man/man1")
file(MAKE_DIRECTORY "${man}" "${root}/share/man/man5")
message(STATUS "Installing: ${man}/bgfs*.1")
execute_process(COMMAND "${bgfs}" help --man OUTPUT_FILE "${man}/bgfs.1"
  COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND "${bgfs}" help --words OUTPUT_VARIABLE verbs
  COMMAND_ERROR_IS_FATAL ANY)
string(REGEX MATCHALL "[^\n]+" verbs "${verbs}")
foreach(verb ${verbs})
  execute_process(COMMAND "${bgfs}" help --man "${verb}"
    OUTPUT_FILE "${man}/bgfs-${verb}.1" COMMAND_ERROR_IS_FATAL ANY)
endforeach()
set(page "${root}/share/man/man5/bgfs-config.5")
message(STATUS "Installing: ${page}")
execute_process(
  COMMAND awk -f "${CMAKE_CURRENT_LIST_DIR}/proto_to_man.awk"
    "${CMAKE_CURRENT_LIST_DIR}/../proto/bgfs.proto"
  OUTPUT_FILE "${page}" COMMAND_ERROR_IS_FATAL ANY)
