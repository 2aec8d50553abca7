"""moto's S3 server on a port of this machine, one request at a time.

It checks a condition and writes in two steps, so that two requests at once could both find a key free. One at a time it
keeps what it promises; the other server of the tests is the one that is raced against.
"""

import sys

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple

run_simple("127.0.0.1", int(sys.argv[1]), DomainDispatcherApplication(create_backend_app), threaded=False)
