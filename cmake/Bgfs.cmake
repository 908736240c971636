# Compiler settings, and the two functions that every folder uses:
#   bgfs_library(NAME SRCS a.cc ... DEPS target ...)
#   bgfs_test(NAME SRCS a_test.cc ... DEPS target ... [LABELS label ...])
# A test without a label is `quick`. Those labelled `long` run only with
# scripts/test --all, those labelled `soak` with --soak, those labelled `e2e` (the
# whole daemon) not in sanitizers.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_LINK_DEPENDS_NO_SHARED ON)

add_compile_options(
  -Wall -Wextra -Wpedantic -Werror -Wshadow -Wnon-virtual-dtor
  -Woverloaded-virtual -Wimplicit-fallthrough -Wunused
  -fstack-protector-strong -fcf-protection=branch -fno-omit-frame-pointer)
if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  add_compile_options(-Wthread-safety -fdiagnostics-color=always)
  add_link_options(-fuse-ld=lld)
endif()
add_compile_definitions(_GLIBCXX_ASSERTIONS _FILE_OFFSET_BITS=64)
add_link_options(-Wl,-z,relro,-z,now)

# address, thread, fuzz (address and libFuzzer, with source-based coverage), or
# empty.
set(BGFS_SANITIZE "" CACHE STRING "Sanitizers to build with")
if(BGFS_SANITIZE STREQUAL "address")
  add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=all)
  add_link_options(-fsanitize=address,undefined)
elseif(BGFS_SANITIZE STREQUAL "thread")
  add_compile_options(-fsanitize=thread)
  add_link_options(-fsanitize=thread)
elseif(BGFS_SANITIZE STREQUAL "fuzz")
  add_compile_options(
    -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all
    -fprofile-instr-generate -fcoverage-mapping)
  add_link_options(-fsanitize=address,undefined -fprofile-instr-generate)
else()
  add_compile_options($<$<CONFIG:Release>:-U_FORTIFY_SOURCE>
                      $<$<CONFIG:Release>:-D_FORTIFY_SOURCE=3>)
endif()

function(bgfs_library name)
  cmake_parse_arguments(ARG "" "" "SRCS;DEPS" ${ARGN})
  add_library(${name} STATIC ${ARG_SRCS})
  target_include_directories(${name} PUBLIC ${PROJECT_SOURCE_DIR})
  target_link_libraries(${name} PUBLIC ${ARG_DEPS})
endfunction()

# What a test that runs several times, with this suffix to its name, finds in its
# environment: one variable, since lists get lost on the way.
set(BGFS_RUN_dev "BGFS_TRANSPORT=dev")
set(BGFS_RUN_io_uring "BGFS_TRANSPORT=io_uring")
set(BGFS_RUN_threads "BGFS_LOOP=threads")

# BOTH_LOOPS: once on what the system offers and once on threads.
# BOTH_TRANSPORTS: once on /dev/fuse, once over io_uring and once on threads.
function(bgfs_test name)
  cmake_parse_arguments(ARG "BOTH_LOOPS;BOTH_TRANSPORTS" "" "SRCS;DEPS;LABELS"
                        ${ARGN})
  if(NOT ARG_LABELS)
    set(ARG_LABELS quick)
  endif()
  # gtest_discover_tests loses all but the first element of a list.
  list(JOIN ARG_LABELS "," labels)
  add_executable(${name} ${ARG_SRCS})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} GTest::gmock GTest::gtest_main)
  set(runs "")
  if(ARG_BOTH_TRANSPORTS)
    set(runs dev io_uring threads)
  elseif(ARG_BOTH_LOOPS)
    set(runs threads)
  endif()
  foreach(run IN LISTS runs)
    gtest_discover_tests(${name} DISCOVERY_MODE PRE_TEST
      TEST_SUFFIX .${run} TEST_LIST ${name}_${run}
      PROPERTIES LABELS "${labels}" TIMEOUT 120
      ENVIRONMENT "${BGFS_RUN_${run}}")
  endforeach()
  if(ARG_BOTH_TRANSPORTS)
    return()
  endif()
  gtest_discover_tests(${name} DISCOVERY_MODE PRE_TEST
    PROPERTIES LABELS "${labels}" TIMEOUT 120)
endfunction()
