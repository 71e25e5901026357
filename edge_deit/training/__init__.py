"""The recipe, the augmentation and the loop behind `finetune`."""
