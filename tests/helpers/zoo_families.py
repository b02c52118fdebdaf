"""The families of the zoo, each with a structure that it has and a small member."""

FAMILIES = {
    "alexnet": ("lrn", "alexnet?width=8"),
    "densenet": ("dense", "densenet?depth=10&growth=4"),
    "inception": ("branch", "inception?width=16"),
    "lenet": ("pool", "lenet"),
    "nin": ("dropout", "nin?width=16"),
    "resnet": ("shortcut", "resnet?depth=8"),
    "resnext": ("block", "resnext?depth=11&cardinality=4&width=2&channels=16"),
    "vgg": ("layer", "vgg?width=8"),
}
