# What IT sets, as the registry of a Windows has it. Without the first command the host
# of Wine's first console keeps the test's output open.
.PHONY: wine-policy
wine-policy: setup-test ## policy in the registry under Wine: every type, the templates' round trip, live reload
	build/wine/with.sh true
	build/wine/with.sh --fresh sh -c 'wine cmd /c exit >/dev/null 2>&1 </dev/null; export GOOS=windows CGO_ENABLED=0; \
	  $(GO) test -count=1 -timeout 5m -exec wine -run "Registry|Installer|Nobody|Computers" ./internal/policy && \
	  $(GO) test -count=1 -timeout 5m -exec wine -run "Templates|Lines|Imported" ./internal/policyfiles ./internal/browserpolicy'
