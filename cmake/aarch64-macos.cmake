# Toolchain: compile and link for macOS on Apple silicon on another machine; nothing runs.
# MACOS_SYSROOT is the folder that scripts/sysroot-macos prints.
set(CMAKE_SYSTEM_NAME Darwin)
set(CMAKE_SYSTEM_PROCESSOR arm64)
set(root $ENV{MACOS_SYSROOT})
set(CMAKE_C_COMPILER ${root}/bin/cc)
set(CMAKE_AR ${root}/bin/ar)
set(CMAKE_RANLIB ${root}/bin/ranlib)
set(ENV{PKG_CONFIG_LIBDIR} ${root}/lib/pkgconfig)
