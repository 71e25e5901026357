"""Forms that Apple's guidance asks for, made of the two that an export has."""
