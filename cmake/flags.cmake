# Compiler and linker flags for every target. Results must not depend on the optimiser, so
# contraction is off everywhere and nothing resembling fast-math is allowed (numerics rules).
include(CheckCCompilerFlag)

add_compile_definitions(_GNU_SOURCE _FILE_OFFSET_BITS=64)
add_compile_options(
  -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wvla
  -Wformat=2 -Wundef -Wwrite-strings
  -ffp-contract=off -fno-math-errno -fno-omit-frame-pointer
  -fstack-protector-strong -fvisibility=hidden -fPIE)
if(CMAKE_C_COMPILER_ID STREQUAL "GNU")
  # What it finds depends on what the optimiser inlined: builds would differ in what they refuse.
  add_compile_options(-Wno-format-truncation)
endif()
# -O3 is what the kernels were measured with; the debug build keeps asserts and stays steppable.
set(CMAKE_C_FLAGS_RELWITHDEBINFO "-O3 -g")
set(CMAKE_C_FLAGS_RELEASE "-O3")
set(CMAKE_C_FLAGS_DEBUG "-O1 -g")

# AUTO: warnings are errors with the compilers that CI runs. Another version may know warnings that
# nobody here has seen, and must still be able to build.
set(werror ${MLX_HUB_WERROR})
if(werror STREQUAL "AUTO")
  set(werror OFF)
  string(REGEX MATCH "^[0-9]+" compiler_major ${CMAKE_C_COMPILER_VERSION})
  if("${CMAKE_C_COMPILER_ID} ${compiler_major}" MATCHES "^(GNU 12|Clang 14)$")
    set(werror ON)
  endif()
endif()
if(werror)
  add_compile_options(-Werror)
endif()

# What one test may take before it counts as hung. Instrumented code runs many times slower.
set(MLX_HUB_TEST_SECONDS 300)
if(MLX_HUB_SANITIZE OR MLX_HUB_COVERAGE)
  set(MLX_HUB_TEST_SECONDS 1200)
endif()

if(MLX_HUB_SANITIZE)
  # Lines are all that a report shows; tracking variables through instrumented kernels takes gcc
  # three times as long as compiling them.
  set(CMAKE_C_FLAGS_DEBUG "-O1 -g1")
  add_compile_options(-fsanitize=${MLX_HUB_SANITIZE} -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${MLX_HUB_SANITIZE})
else()
  # Undefined first: some distributions' compilers predefine another level.
  add_compile_options($<$<NOT:$<CONFIG:Debug>>:-U_FORTIFY_SOURCE>
                      $<$<NOT:$<CONFIG:Debug>>:-D_FORTIFY_SOURCE=2>)
endif()
if(MLX_HUB_FUZZ)
  # Every room reports its branches, or the fuzzer would see only its own harness.
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
if(MLX_HUB_COVERAGE)
  add_compile_options(--coverage -fprofile-update=atomic)
  add_link_options(--coverage)
endif()

if(APPLE)
  add_link_options(-Wl,-dead_strip)
else()
  foreach(flag -fstack-clash-protection -fcf-protection)
    string(MAKE_C_IDENTIFIER "has${flag}" has)
    check_c_compiler_flag(${flag} ${has})
    if(${has})
      add_compile_options(${flag})
    endif()
  endforeach()
  add_link_options(-pie -Wl,-z,relro,-z,now,-z,noexecstack)
endif()
