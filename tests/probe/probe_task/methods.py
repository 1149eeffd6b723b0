from gnomon.methods import Method


def warm_up() -> None:
    print("the probe is warm", flush=True)


METHODS = (
    Method(name="plain", task="probe", summary="does it", licence="MIT", paper="none", warm_up=warm_up),
    Method(
        name="absent",
        task="probe",
        summary="cannot run",
        licence="MIT",
        paper="none",
        packages=("no_such_package",),
        extra="probe",
    ),
)
