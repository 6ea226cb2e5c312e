package doctor

import (
	"context"
	"errors"
	"io/fs"
	"os"
)

// checkWindow never starts the window: it looks at what the window needs.
func checkWindow(_ context.Context, w *world, c check) []Finding {
	if w.WebView != nil {
		found, err := w.WebView()
		switch {
		case err != nil:
			return []Finding{w.say(c, "failed").because(err)}
		case found.Needed && found.Version == "":
			return []Finding{w.say(c, "webview_missing")}
		case found.Needed && found.TooOld:
			return []Finding{w.say(c, "webview_old", "version", found.Version, "oldest", found.Oldest)}
		case found.Needed:
			return []Finding{w.say(c, "webview", "version", found.Version)}
		}
	}
	if program := windowProgram(w.Executable); program != "" {
		if info, err := os.Stat(program); errors.Is(err, fs.ErrNotExist) || err == nil && info.Mode().Perm()&0o111 == 0 {
			return []Finding{w.say(c, "program_missing", "program", program)}
		}
	}
	if !w.Display() {
		return []Finding{w.say(c, "no_display")}
	}
	return []Finding{w.say(c, "fine")}
}
