from hypothesis import settings

# A busy machine is no failure: none of these tests is about speed.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
