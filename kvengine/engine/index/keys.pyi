from kvengine.options import KEY_BYTES_MAX as KEY_BYTES_MAX
