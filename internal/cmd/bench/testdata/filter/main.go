// Command filter shows the launcher's own page, as it was built into the folder that
// is its argument, with 200 recents in the engine of the window. It types words into
// the search field, key by key, and prints as one line of JSON what each key took.
package main

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/wailsapp/wails/v2"
	"github.com/wailsapp/wails/v2/pkg/options"
	"github.com/wailsapp/wails/v2/pkg/options/assetserver"
	"github.com/wailsapp/wails/v2/pkg/runtime"
)

//go:embed type.js
var typing string

func main() {
	if len(os.Args) != 2 {
		os.Exit(4)
	}
	err := wails.Run(&options.App{
		Title: "bench", Width: 440, Height: 660,
		AssetServer: &assetserver.Options{Assets: os.DirFS(os.Args[1])},
		Bind:        []any{&App{began: time.Now()}},
		OnStartup: func(ctx context.Context) {
			runtime.EventsOnce(ctx, "measured", func(told ...any) {
				fmt.Println(told...)
				runtime.Quit(ctx)
			})
		},
		OnDomReady: func(ctx context.Context) { runtime.WindowExecJS(ctx, typing) },
	})
	if err != nil {
		os.Exit(4)
	}
}

// App stands in for the launcher's: the page finds it by its name.
type App struct{ began time.Time }

// About returns what the page says about the program.
func (*App) About() map[string]string { return map[string]string{"version": "bench", "language": "en"} }

// Snapshot returns that of a person who is signed in and has opened 200 encounters.
func (a *App) Snapshot() map[string]any {
	recents := make([]map[string]any, 200)
	for i := range recents {
		recents[i] = map[string]any{
			"id": fmt.Sprintf("r%d", i), "label": label(i), "status": []string{"opened", "exported"}[i%2],
			"opened_at": a.began.Add(-time.Duration(i) * 17 * time.Minute).Format(time.RFC3339),
		}
	}
	return map[string]any{
		"revision": 1, "version": "bench", "organization_name": "Bench", "language": "en", "locale": "en-GB", "hidden": []string{},
		"sign_in": map[string]any{"state": "signed_in", "person": map[string]string{"subject": "1", "email": "ada@bench.example"}},
		"policy":  map[string]any{"ok": true, "problems": []string{}}, "keyring": map[string]string{"code": ""},
		"backend": map[string]string{"state": "reachable"}, "recents": recents, "settings": []any{},
	}
}

// label is a name, and in one of ten what a hostile backend would send.
func label(i int) string {
	given := []string{"Amara", "Björn", "Chloé", "Dmitri", "Élise", "Fatima", "Giórgos", "Hana", "Íñigo", "Jürgen", "Kwame"}
	family := []string{"Anderson", "Müller", "Lefèvre", "Okafor", "Nguyen", "García", "Papadopoulos", "Søndergaard", "O’Neill", "Yılmaz", "van den Berg", "Smith", "Castañeda"}
	hostile := []string{
		`<img src=x onerror=alert(1)><b>Anderson</b>`, "\u202enosrednA\u2066 \u200f\u200b", strings.Repeat("Anderson ", 1200),
		strings.Repeat("👩🏽‍⚕️", 60), "Anderson\r\n\u2028Amara\tA", "A" + strings.Repeat("\u0301", 4000),
	}
	if i%10 == 9 {
		return hostile[i/10%len(hostile)]
	}
	return given[i%len(given)] + " " + family[i%len(family)]
}
