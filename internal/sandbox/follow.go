package sandbox

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"
)

// The play has no browser: an "xdg-open" of its own stands in front of PATH and
// hands the one address that it is given to the sandbox, which follows it.

// followAt says where the sandbox waits for addresses; the file is for this
// user only.
type followAt struct {
	Address string `json:"address"`
	Secret  string `json:"secret"`
}

const (
	headerFollow     = "X-Sandbox-Follow"
	maxFollowedBytes = 8 << 10
	maxFollowedPage  = 256 << 10
)

// Follow hands an address to the sandbox that wrote the given file. It is what
// the play's "xdg-open" runs. It neither prints nor keeps the address.
func Follow(ctx context.Context, file, address string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return errors.New("no sandbox is playing")
	}
	var at followAt
	if err := json.Unmarshal(data, &at); err != nil {
		return errors.New("no sandbox is playing")
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+at.Address+"/follow", strings.NewReader(address))
	if err != nil {
		return errors.New("no sandbox is playing")
	}
	request.Header.Set(headerFollow, at.Secret)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return errors.New("the sandbox does not answer")
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusAccepted {
		return errors.New("the sandbox does not take this address")
	}
	return nil
}

// visit is one page that the play's browser came to.
type visit struct {
	address string
	status  int
	text    string
}

// player is the browser and the person in front of it: it opens what it is
// given, and on the sign-in page it presses the button of one clinician.
type player struct {
	issuer, nabla string
	http          *http.Client

	mu      sync.Mutex
	person  string  // guarded by mu; key of the clinician who signs in
	signIns int     // guarded by mu
	pages   []visit // guarded by mu; encounter pages, oldest first
	left    int     // guarded by mu; how often the end of the issuer's session was opened
	odd     []error // guarded by mu; what went wrong on the way
}

func newPlayer(issuer, nabla string) (*player, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, fmt.Errorf("making a browser: %w", err)
	}
	return &player{issuer: issuer, nabla: nabla, http: &http.Client{Jar: jar, Timeout: 20 * time.Second}}, nil
}

// listen takes addresses until the context ends, and writes where.
func (p *player) listen(ctx context.Context, file string) error {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return errors.New("opening a port on loopback")
	}
	at := followAt{Address: l.Addr().String(), Secret: randomText()}
	if err := writeJSON(file, at); err != nil {
		return errors.Join(err, l.Close())
	}
	server := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(io.LimitReader(r.Body, maxFollowedBytes))
		if err != nil || r.Method != http.MethodPost || subtle.ConstantTimeCompare([]byte(r.Header.Get(headerFollow)), []byte(at.Secret)) != 1 {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		w.WriteHeader(http.StatusAccepted)
		// A browser that is started does not keep its starter waiting.
		go p.open(context.WithoutCancel(r.Context()), string(body))
	})}
	go func() { _ = server.Serve(l) }()
	context.AfterFunc(ctx, func() { _ = server.Close() })
	return nil
}

// open does what a browser does with an address, and notes where it came.
func (p *player) open(ctx context.Context, address string) {
	var err error
	switch {
	case strings.HasPrefix(address, p.issuer+"/end_session?"):
		var v visit
		if v, err = p.get(ctx, address); err == nil && v.status != http.StatusOK {
			err = fmt.Errorf("the end of the issuer's session answered with status %d", v.status)
		}
		p.mu.Lock()
		p.left++
		p.mu.Unlock()
	case strings.HasPrefix(address, p.issuer+"/"):
		err = p.signIn(ctx, address)
	case strings.HasPrefix(address, p.nabla+"/"):
		var v visit
		if v, err = p.get(ctx, address); err == nil {
			p.mu.Lock()
			p.pages = append(p.pages, v)
			p.mu.Unlock()
		}
	default:
		err = errors.New("the browser was given an address that is neither the issuer's nor Nabla's")
	}
	if err != nil {
		p.mu.Lock()
		p.odd = append(p.odd, err)
		p.mu.Unlock()
	}
}

func (p *player) get(ctx context.Context, address string) (visit, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return visit{}, errors.New("the browser was given something that is no address")
	}
	return p.do(request)
}

func (p *player) do(request *http.Request) (visit, error) {
	response, err := p.http.Do(request)
	if err != nil {
		return visit{}, errors.New("a page could not be fetched")
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxFollowedPage))
	if err != nil {
		return visit{}, errors.New("a page broke off")
	}
	return visit{address: request.URL.String(), status: response.StatusCode, text: string(text)}, nil
}

// signIn presses the button of the person on the sign-in page and follows the
// browser's way back to the launcher.
func (p *player) signIn(ctx context.Context, address string) error {
	p.mu.Lock()
	p.signIns++
	person := p.person
	p.mu.Unlock()
	page, err := p.get(ctx, address)
	if err != nil {
		return err
	}
	_, rest, found := strings.Cut(page.text, `name="request" value="`)
	id, _, closed := strings.Cut(rest, `"`)
	if page.status != http.StatusOK || !found || !closed {
		return fmt.Errorf("the sign-in page answered with status %d and no form", page.status)
	}
	form := url.Values{"request": {id}, "clinician": {person}}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.issuer+"/sign-in", strings.NewReader(form.Encode()))
	if err != nil {
		return errors.New("the sign-in form has no address")
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	back, err := p.do(request)
	if err == nil && back.status != http.StatusOK {
		err = fmt.Errorf("the way back to the launcher ended with status %d", back.status)
	}
	return err
}

// hasLeft returns how often the issuer's session was ended.
func (p *player) hasLeft() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.left
}

func (p *player) signInAs(person string) {
	p.mu.Lock()
	p.person = person
	p.mu.Unlock()
}

// seen returns the encounter pages so far, how often the sign-in page was
// opened, and the first thing that went wrong.
func (p *player) seen() (pages []visit, signIns int, odd error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.odd) > 0 {
		odd = p.odd[0]
	}
	return append([]visit(nil), p.pages...), p.signIns, odd
}
