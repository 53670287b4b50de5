# Compiler and linker flags for every target. Results must not depend on the optimiser, so
# contraction is off everywhere and nothing resembling fast-math is allowed (numerics rules).
add_compile_definitions(_GNU_SOURCE _FILE_OFFSET_BITS=64)
add_compile_options(
  -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wvla
  -Wformat=2 -Wundef -Wwrite-strings
  -ffp-contract=off -fno-math-errno -fno-omit-frame-pointer
  -fstack-protector-strong -fvisibility=hidden -fPIE)
# -O3 is what the kernels were measured with; the debug build keeps asserts and stays steppable.
set(CMAKE_C_FLAGS_RELWITHDEBINFO "-O3 -g")
set(CMAKE_C_FLAGS_RELEASE "-O3")
set(CMAKE_C_FLAGS_DEBUG "-O1 -g")
if(MLX_HUB_WERROR)
  add_compile_options(-Werror)
endif()
if(MLX_HUB_SANITIZE)
  add_compile_options(-fsanitize=${MLX_HUB_SANITIZE} -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${MLX_HUB_SANITIZE})
else()
  add_compile_definitions($<$<NOT:$<CONFIG:Debug>>:_FORTIFY_SOURCE=2>)
endif()
if(MLX_HUB_COVERAGE)
  add_compile_options(--coverage -fprofile-update=atomic)
  add_link_options(--coverage)
endif()
if(APPLE)
  add_link_options(-Wl,-dead_strip)
else()
  add_link_options(-pie -Wl,-z,relro,-z,now,-z,noexecstack)
endif()
