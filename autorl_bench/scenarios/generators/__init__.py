"""Seeded generators of problems, by the name that a scenario gives them."""

BUNDLED_GENERATORS = {
    "nano_gsm": "autorl_bench.scenarios.generators.word_problems->WordProblems",
    "countdown": "autorl_bench.scenarios.generators.countdown->Countdown",
    "reasoning_gym": "autorl_bench.scenarios.generators.reasoning_gym->ReasoningGym",
    "python_function": "autorl_bench.scenarios.generators.python_function->PythonFunctions",
}
