# The Windows program under Wine.

.PHONY: wine wine-program wine-play
wine: setup-test build-windows build-windows-demo build-demo ## the Windows program under Wine: the rooms' tests, the program by script, the demo played
	VERSION=$(VERSION) build/wine/suite.sh
wine-program: setup-test build-windows ## the Windows program by script, under Wine
	VERSION=$(VERSION) build/wine/with.sh --fresh build/wine/program.sh
wine-play: setup-test build-windows-demo build-demo ## the demo played with the Windows program, under Wine
	build/wine/with.sh --fresh build/wine/play.sh
