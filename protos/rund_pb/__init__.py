"""Generated messages and stubs of the rund schema. The ``.proto`` files beside the modules are the source."""
