"""``python -m testbed``: the same commands as ``aerotow testbed``."""

from testbed.commands import testbed

testbed(prog_name="python -m testbed")
