"""From raw ratings to the release's train_list.npy, valid_list.npy and test_list.npy."""

from DiffRec.preparation.folders import prepare_folder as prepare_folder
