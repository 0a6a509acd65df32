"""What tests of kvengine, and of programs that use it, need: faults, crashes, clocks, checks."""
