"""What can go wrong, split by what the caller does about it.

TailkeeperError
├── RetryError     temporary: try again later, keep everything
│   ├── CameraError     a source gives no frames now
│   ├── BrokerError     no broker, or it went away
│   └── SpoolFullError  no room for another item now
├── RejectError    this one thing can never succeed: drop or quarantine it, go on with the next
│   ├── FrameError      a frame or its rows cannot be used
│   ├── PrivacyError    a mask or redaction cannot be applied: no image
│   ├── ItemError       a spooled item is damaged or impossible
│   ├── LabelError      a human label of a frame cannot be taken
│   └── WireError       a message breaks the protocol
└── StopError      the command cannot go on: say why, exit
    ├── ConfigError     the user's input is wrong (exit status 2)
    ├── ModelError      the model cannot be used
    ├── VersionError    a version of the data set is damaged or was changed
    └── ServiceError    one of the service's loops failed
"""


class TailkeeperError(Exception):
    """Base of every error of ours: one line that says what is wrong, where, and (remedy) what would be right."""

    exit_status = 1

    def __init__(self, what: str, *, remedy: str = "") -> None:
        super().__init__(f"{what}; {remedy}" if remedy else what)
        self.what = what
        self.remedy = remedy


class RetryError(TailkeeperError):
    """Temporary: the same call may succeed later."""


class CameraError(RetryError):
    """A camera or recording gives no frames now."""


class BrokerError(RetryError):
    """The broker cannot be reached or went away."""


class SpoolFullError(RetryError):
    """The spool, or the disk under it, has no room for another item now."""


class RejectError(TailkeeperError):
    """This one thing can never succeed; the next one may."""


class FrameError(RejectError):
    """A frame, an image file or a frame's rows cannot be used."""


class PrivacyError(RejectError):
    """A mask or a redaction cannot be applied, so there is no image to look at or to keep."""


class ItemError(RejectError):
    """A spooled item is damaged, or can never be delivered."""


class LabelError(RejectError):
    """What a labelling tool says of a frame cannot be taken for a person's label."""


class WireError(RejectError):
    """A message breaks the protocol."""


class StopError(TailkeeperError):
    """The command cannot go on."""


class ConfigError(StopError):
    """Wrong usage or configuration."""

    exit_status = 2

    def __init__(self, what: str, *, remedy: str = "", problems: tuple[tuple[str, str], ...] = ()) -> None:
        """`problems`: dotted key path and what is wrong there, for each key that is wrong, where keys are known."""
        super().__init__(what, remedy=remedy)
        self.problems = problems


class ModelError(StopError):
    """The model is missing, is not a usable detector, or cannot be run."""


class VersionError(StopError):
    """A version of the data set is damaged, or was changed after it was built."""


class ServiceError(StopError):
    """A loop of the service failed in a way nobody foresaw."""
