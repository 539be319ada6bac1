"""The configuration under which images that are no test set are embedded."""

from svllreid.jobs.encoding import fitting_config


def test_side_information_is_left_out_unless_cameras_are_those_of_training(small_config, tmp_path):
    config = small_config({"MODEL.SIE_CAMERA": True})
    without, notes = fitting_config(config, tmp_path / "a.pth", cameras=False)
    assert not without.model.sie_camera and len(notes) == 1 and "--cameras" in notes[0]
    assert fitting_config(config, tmp_path / "a.pth", cameras=True) == (config, [])
    plain = small_config({"MODEL.SIE_CAMERA": False})
    assert fitting_config(plain, tmp_path / "a.pth", cameras=False) == (plain, [])
