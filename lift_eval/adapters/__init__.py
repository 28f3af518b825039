"""Adapters, all as peft methods, all reset in place: one module or folder each, named in `registry` and nowhere else.

model = attach(model, recipe.adapter, seed=recipe.seed)
initial = AdapterState.capture(model)
...  # train and answer
initial.restore(model)  # bit for bit
"""

from lift_eval.adapters.lazy_import import lazy_import

lazy_import()  # bitsandbytes, before anything imports peft
