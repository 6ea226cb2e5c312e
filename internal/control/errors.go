package control

import (
	"context"
	"errors"
	"io"
	"os"
	"syscall"
)

// bare returns what went wrong without the names that the standard library puts
// around it: the path of a socket holds the name of the user.
func bare(err error) error {
	var errno syscall.Errno
	switch {
	case err == nil:
		return nil
	case errors.As(err, &errno):
		return errno
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return errors.New("no answer in time")
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the other end closed the connection")
	}
	return errors.New("the connection failed")
}
