"""`turnout demo`: the main job, shown on this machine: LLMs and recommenders behind one roof, over gRPC and HTTP."""
