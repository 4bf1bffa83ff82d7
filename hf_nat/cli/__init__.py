"""`hf-nat <command>`: parsing and messages; the work is done by the packages beside this one."""
