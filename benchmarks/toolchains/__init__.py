"""Each toolchain's own recipe, independent of this package on purpose."""
