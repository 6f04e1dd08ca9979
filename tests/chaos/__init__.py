"""Random commands of several users against one engine, while its processes are killed at random.

`run.py` is the program (`make chaos`). `model.py` knows what each object must be, or which two things it may be if the
last command on it was cut by a kill; `users.py` runs the commands; `killer.py` kills; `judge.py` looks at the engine
when all is over.
"""
