"""The kinds of source, a module each; `naming` says which text stands for which."""
