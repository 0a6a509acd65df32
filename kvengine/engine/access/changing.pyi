from kvengine.engine.access.writing import Writer
from kvengine.engine.jobs.compaction import PAUSE_MAX_S as PAUSE_MAX_S
from kvengine.options import METADATA_BYTES_MAX as METADATA_BYTES_MAX
from kvengine.options import VALUE_BYTES_MAX as VALUE_BYTES_MAX
from kvengine.options import VERSION_LIMIT as VERSION_LIMIT

class Changer(Writer): ...
