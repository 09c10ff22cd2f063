import acl_runtime  # noqa: F401  # first: it keeps what is imported here from phoning home
