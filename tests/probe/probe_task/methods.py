from gnomon.methods import Method

METHODS = (
    Method(name="plain", task="probe", summary="does it", licence="MIT", paper="none"),
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
