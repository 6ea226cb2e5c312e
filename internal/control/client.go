package control

import (
	"context"
	"encoding/json"

	"encounterlauncher/internal/intake"
	"encounterlauncher/internal/paths"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/view"
)

// Client is another process's end of the channel.
type Client struct{}

// Dial connects to the agent of this user and makes sure that it is one.
// Every error is a problem of code agent_unreachable; ErrNoAgent is in its
// chain when nobody listens.
func Dial(ctx context.Context, l paths.Layout) (*Client, error) { panic("not yet") }

// Close drops a connection that was not used.
func (c *Client) Close() { panic("not yet") }

// AgentPID returns the process id of the agent, 0 when unknown.
func (c *Client) AgentPID() int { panic("not yet") }

// Link hands one link over. A refusal is an Ack that is not Accepted and no error.
func (c *Client) Link(ctx context.Context, link intake.Candidate, a Activation) (Ack, error) {
	panic("not yet")
}

// Refused reports a link that this process refused by itself.
func (c *Client) Refused(ctx context.Context, code problem.Code, reference string) error {
	panic("not yet")
}

// Snapshot returns the agent's newest snapshot.
func (c *Client) Snapshot(ctx context.Context) (view.Snapshot, error) { panic("not yet") }

// Watch calls show with every newest snapshot until ctx ends (nil) or the agent does (error).
func (c *Client) Watch(ctx context.Context, show func(view.Snapshot) error) error { panic("not yet") }

// Do asks for an intent and returns the agent's own *problem.Problem when it refuses.
func (c *Client) Do(ctx context.Context, i Intent) error { panic("not yet") }

// Policy returns the agent's effective policy as JSON.
func (c *Client) Policy(ctx context.Context) (json.RawMessage, error) { panic("not yet") }
