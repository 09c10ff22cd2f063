import acl_runtime  # noqa: F401  # first: it keeps ONNX Runtime, imported here too, from phoning home
