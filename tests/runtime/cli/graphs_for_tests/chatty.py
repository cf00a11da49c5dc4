"""A graph whose module, nodes, child processes and exit handlers print wherever they can."""

import atexit
import logging
import os
import subprocess
import sys
from typing import TypedDict

from langgraph.graph import START, StateGraph

print("IMPORT prints")
atexit.register(lambda: print("EXIT prints"))


class State(TypedDict, total=False):
    n: int


async def prints(state: State) -> State:
    print("NODE prints")
    print("NODE prints past sys.stdout", file=sys.__stdout__, flush=True)
    logging.getLogger("chatty").warning("NODE logs")
    os.write(1, b"NODE writes a descriptor\n")
    return {"n": 1}


def starts(state: State) -> State:
    subprocess.run(["echo", "CHILD prints"], check=True)
    os.system("echo SHELL prints")
    return {"n": 2}


example_input: State = {}
graph = StateGraph(State)
graph.add_node("prints", prints)
graph.add_node("starts", starts)
graph.add_edge(START, "prints")
graph.add_edge("prints", "starts")
