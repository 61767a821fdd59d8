"""`python -m stack.llm_server`: the process of the local LLM; see :class:`stack.llm.Llm`."""

from __future__ import annotations

import argparse
import signal

import xllamacpp

from stack.llm import LISTENING


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m stack.llm_server", description=__doc__)
    parser.add_argument("--model", required=True, help="path of a GGUF file")
    parser.add_argument("--alias", required=True, help="name by which callers ask for the model")
    parser.add_argument("--port", type=int, required=True, help="loopback TCP port")
    parser.add_argument("--threads", type=int, default=1, help="threads that compute (default: %(default)s)")
    arguments = parser.parse_args()

    # Before the C++ server starts its threads, which inherit the mask: else one of them would take the signal.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    parameters = xllamacpp.CommonParams()
    parameters.model.path = arguments.model
    parameters.model_alias = {arguments.alias}
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = arguments.port
    parameters.n_ctx = 4096
    parameters.n_parallel = 2
    parameters.cpuparams.n_threads = arguments.threads
    parameters.endpoint_metrics = True
    parameters.warmup = False
    parameters.offline = True
    parameters.ui = False
    parameters.verbosity = -1
    server = xllamacpp.Server(parameters)
    print(LISTENING, server.listening_address, flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    main()
