from tests.load.conftest import scripted_server as scripted_server
