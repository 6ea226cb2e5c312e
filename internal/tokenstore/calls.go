package tokenstore

import (
	"context"
	"errors"
	"fmt"
)

// calls runs the calls of a keyring under a context, although a keyring takes
// none: it may wait for a person who is asked for a password. At most one call
// is under way; while it is stuck, further ones wait for it and give up with
// their context, so that a hundred clicks leave one goroutine behind.
type calls struct {
	keyring Keyring
	service string
	slot    chan struct{}
}

func newCalls(k Keyring, service string) *calls {
	return &calls{keyring: k, service: service, slot: make(chan struct{}, 1)}
}

func (c *calls) get(ctx context.Context, item string) (string, error) {
	return c.do(ctx, func() (string, error) { return c.keyring.Get(c.service, item) })
}

func (c *calls) set(ctx context.Context, item, value string) error {
	_, err := c.do(ctx, func() (string, error) { return "", c.keyring.Set(c.service, item, value) })
	return err
}

// remove deletes an item; one that is not there is no error.
func (c *calls) remove(ctx context.Context, item string) error {
	_, err := c.do(ctx, func() (string, error) { return "", c.keyring.Delete(c.service, item) })
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

func (c *calls) do(ctx context.Context, call func() (string, error)) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", fmt.Errorf("%w: %w", errNoAnswer, err)
	}
	select {
	case c.slot <- struct{}{}:
	case <-ctx.Done():
		return "", fmt.Errorf("%w: an earlier call still waits", errNoAnswer)
	}
	type answer struct {
		value string
		err   error
	}
	answered := make(chan answer, 1)
	go func() {
		defer func() { <-c.slot }()
		value, err := contained(call)
		answered <- answer{value, err}
	}()
	select {
	case a := <-answered:
		return a.value, a.err
	case <-ctx.Done():
		return "", errNoAnswer
	}
}

// contained keeps a panic of the keyring's client from ending the agent: when
// the session bus ends while a prompt is open, go-keyring reads from a closed
// channel and dereferences nil (secret_service.go, handlePrompt).
func contained(call func() (string, error)) (value string, err error) {
	defer func() {
		if recover() != nil {
			value, err = "", errPanicked
		}
	}()
	return call()
}
