package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// checkWindow never starts the window: it looks at what the window needs.
func checkWindow(ctx context.Context, w *world, c check) []Finding {
	webView, err := w.WebView()
	switch {
	case err != nil:
		return []Finding{w.say(c, "failed").because(err)}
	case webView.Needed && webView.Version == "":
		return []Finding{w.say(c, "webview_missing")}
	case webView.Needed && olderThan(webView.Version, oldestWebView):
		return []Finding{w.say(c, "webview_old", "version", webView.Version, "oldest", oldestWebView)}
	case webView.Needed:
		return []Finding{w.say(c, "webview", "version", webView.Version)}
	}
	if program := windowProgram(w.Executable); program != "" {
		if info, err := os.Stat(program); errors.Is(err, fs.ErrNotExist) || err == nil && info.Mode().Perm()&0o111 == 0 {
			return []Finding{w.say(c, "program_missing", "program", program)}
		}
		missing, err := w.Libraries(ctx, program)
		switch {
		case err != nil:
			return []Finding{w.say(c, "failed").because(err)}
		case len(missing) > 0:
			return []Finding{w.say(c, "library_missing", "library", missing[0]).because(fmt.Errorf("not found: %s", strings.Join(missing, ", ")))}
		}
	}
	if !w.Display() {
		return []Finding{w.say(c, "no_display")}
	}
	return []Finding{w.say(c, "fine")}
}

// olderThan compares versions of numbers with dots, number by number. What is no number
// counts as 0.
func olderThan(version, than string) bool {
	a, b := strings.Split(version, "."), strings.Split(than, ".")
	for i := range max(len(a), len(b)) {
		var x, y int
		if i < len(a) {
			x, _ = strconv.Atoi(a[i])
		}
		if i < len(b) {
			y, _ = strconv.Atoi(b[i])
		}
		if x != y {
			return x < y
		}
	}
	return false
}
