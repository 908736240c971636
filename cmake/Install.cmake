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
