"""The benchmark of `corekit.projection` beside its peers; see the README in this folder."""
