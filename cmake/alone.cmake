# The rooms, or parts of rooms, that need nothing but the C library, and the tests of tests/neon over
# them. With MLX_HUB_ALONE this is the whole build: it is what can be compiled for a machine whose
# libraries are not at hand, which is how the NEON kernels run where there is no NEON.
# What is left out of base needs OpenSSL (hash), jansson (json) or libcurl.
set(base_alone err mem arena buf fault clock log rng thread utf8)
list(TRANSFORM base_alone REPLACE "(.+)" "${PROJECT_SOURCE_DIR}/src/base/\\1.c")
add_library(room_base STATIC ${base_alone})
target_include_directories(room_base PUBLIC ${PROJECT_SOURCE_DIR}/src)
target_link_libraries(room_base PUBLIC Threads::Threads m)
kernels_room(kernels room_base)

enable_testing()
file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/neon/test_*.c)
foreach(source ${sources})
  get_filename_component(stem ${source} NAME_WE)
  add_executable(neon_${stem} ${source})
  target_include_directories(neon_${stem} PRIVATE ${PROJECT_SOURCE_DIR}/tests)
  target_link_libraries(neon_${stem} PRIVATE room_kernels room_base)
  add_test(NAME neon/${stem} COMMAND neon_${stem} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  set_tests_properties(neon/${stem} PROPERTIES TIMEOUT 300)
endforeach()
