"""Exit codes of every program: those of a shell, and the numbers of sysexits.h.

 0  OK             done
 2  USAGE          wrong arguments
65  BAD_INPUT      the video can never be analysed              EX_DATAERR
69  UNAVAILABLE    a service or S3 did not answer in time       EX_UNAVAILABLE
70  INTERNAL       any other failure                            EX_SOFTWARE
75  LEASE_LOST     another pod has the launch, or it has ended  EX_TEMPFAIL
78  CONFIGURATION  a setting is missing or wrong                EX_CONFIG
"""

OK = 0
USAGE = 2
BAD_INPUT = 65
UNAVAILABLE = 69
INTERNAL = 70
LEASE_LOST = 75
CONFIGURATION = 78
