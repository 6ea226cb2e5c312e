// Package opener hands one checked address to the system's browser.
//
// It accepts nothing but a launch.Target, which only the allow-list of the
// organisation can make, and passes exactly its bytes as one argument. It never
// logs, stores, copies or shows the address, never waits for the browser to end,
// and never looks at DISPLAY: whether there is a browser is for the system's
// opener to find out.
package opener

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/pkg/browser"

	"encounterlauncher/internal/launch"
	"encounterlauncher/internal/problem"
)

// startGrace is how long Open waits for bad news. The system's opener fails
// within it when there is no browser; one that is still running then has started
// the browser and may go on until the browser ends.
const startGrace = time.Second

// Activation is the person's click, passed on so that the browser may come to
// the front. Either value may be empty; on Windows both are.
type Activation struct {
	// Token is XDG_ACTIVATION_TOKEN (xdg-activation-v1).
	Token string
	// StartupID is DESKTOP_STARTUP_ID (startup notification specification).
	StartupID string
}

// Opener starts the system's browser, one address after another. It is safe for
// concurrent use.
type Opener struct {
	log   *slog.Logger
	start func(address string) error
	grace func() <-chan time.Time

	// turn holds one item while nobody is starting a browser. It guards the two
	// environment variables of activate.
	turn chan struct{}
	// started counts the openers that have not returned yet.
	started sync.WaitGroup
}

// The library writes what the opener prints to our own streams unless these two
// are replaced. They are its package variables, so they are set once for the
// process: a second New must not write them while an opener reads them.
var silence = sync.OnceFunc(func() {
	// nil makes os/exec open the null device for the child itself. io.Discard
	// would be a pipe that ends with this process, and a browser that outlives
	// it would be killed by its next line of output.
	browser.Stdout, browser.Stderr = nil, nil
})

// New returns an Opener that reports late failures to log.
func New(log *slog.Logger) *Opener {
	silence()
	o := &Opener{
		log:   log,
		start: browser.OpenURL,
		grace: func() <-chan time.Time { return time.After(startGrace) },
		turn:  make(chan struct{}, 1),
	}
	o.turn <- struct{}{}
	return o
}

// Open starts the browser with the address and returns when that failed, when
// the system's opener has ended well, or after a second, whichever comes first.
// A nil error means that the browser was most likely started, never that a page
// was seen: there is no such proof.
//
// ctx is heeded until the start and not after it, because a started browser
// cannot be called back.
//
// Errors are problems: browser_unavailable when nothing could be started,
// address_not_allowed for the zero Target, cancelled.
func (o *Opener) Open(ctx context.Context, t launch.Target, a Activation) error {
	address := t.Address()
	if address.Empty() {
		return problem.New(problem.AddressNotAllowed, errors.New("opening: the target was not checked"))
	}
	select {
	case <-ctx.Done():
		return problem.New(problem.Cancelled, ctx.Err())
	case <-o.turn:
	}
	defer func() { o.turn <- struct{}{} }()
	if ctx.Err() != nil {
		return problem.New(problem.Cancelled, ctx.Err())
	}

	defer activate(a)()
	result, waiting := make(chan *problem.Problem), make(chan struct{})
	defer close(waiting)
	o.started.Go(func() {
		err := failure(o.start(address.Reveal()))
		select {
		case result <- err:
		case <-waiting:
			if err != nil {
				o.log.Warn("the browser's opener ended badly after its start", "problem", err)
			}
		}
	})
	select {
	case err := <-result:
		if err != nil {
			return err
		}
	case <-o.grace():
	}
	return nil
}

// failure describes an error of the library without its text, which is not ours
// to vouch for.
func failure(err error) *problem.Problem {
	var exit *exec.ExitError
	var errno syscall.Errno
	switch {
	case err == nil:
		return nil
	case errors.Is(err, exec.ErrNotFound):
		err = errors.New("opening: no program that opens web pages was found")
	case errors.As(err, &exit):
		err = fmt.Errorf("opening: the program that opens web pages ended with status %d", exit.ExitCode())
	case errors.As(err, &errno):
		err = fmt.Errorf("opening: starting the program that opens web pages: %w", errno)
	default:
		err = errors.New("opening: the program that opens web pages did not start")
	}
	return problem.New(problem.BrowserUnavailable, err)
}
