package orgserver

import (
	"testing"

	"encounterlauncher/internal/orgstore/natstest"
)

func TestMain(m *testing.M) { natstest.Main(complete{m}) }
