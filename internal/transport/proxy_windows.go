package transport

import (
	"errors"
	"fmt"
	"net/url"
	"sync"
	"unsafe"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"
)

// WinHTTP, from the system's own folder only. What is not there on an old Windows
// is an error of the look-up, never a panic.
var (
	winhttp             = windows.NewLazySystemDLL("winhttp.dll")
	procOpen            = winhttp.NewProc("WinHttpOpen")
	procCloseHandle     = winhttp.NewProc("WinHttpCloseHandle")
	procSetTimeouts     = winhttp.NewProc("WinHttpSetTimeouts")
	procProxyForURL     = winhttp.NewProc("WinHttpGetProxyForUrl")
	procPersonSettings  = winhttp.NewProc("WinHttpGetIEProxyConfigForCurrentUser")
	procMachineSettings = winhttp.NewProc("WinHttpGetDefaultProxyConfiguration")
	kernel32            = windows.NewLazySystemDLL("kernel32.dll")
	procGlobalFree      = kernel32.NewProc("GlobalFree")
	iphlpapi            = windows.NewLazySystemDLL("iphlpapi.dll")
	procNotifyAddress   = iphlpapi.NewProc("NotifyUnicastIpAddressChange")
	procCancelNotify    = iphlpapi.NewProc("CancelMibChangeNotify2")
)

// Of winhttp.h.
const (
	accessTypeNoProxy      = 1 // WINHTTP_ACCESS_TYPE_NO_PROXY
	accessTypeNamedProxy   = 3 // WINHTTP_ACCESS_TYPE_NAMED_PROXY
	autoDetect             = 1 // WINHTTP_AUTOPROXY_AUTO_DETECT
	autoConfigURL          = 2 // WINHTTP_AUTOPROXY_CONFIG_URL
	detectDHCP             = 1 // WINHTTP_AUTO_DETECT_TYPE_DHCP
	detectDNS              = 2 // WINHTTP_AUTO_DETECT_TYPE_DNS_A
	errLoginFailure        = windows.Errno(12015)
	errAutodetectionFailed = windows.Errno(12180) // nothing was detected, the usual case
)

// detectTimeout bounds, in milliseconds, each step of fetching a script, so that a
// look-up that nobody waits for any more ends too.
const detectTimeout = 10_000

// personSettings is WINHTTP_CURRENT_USER_IE_PROXY_CONFIG.
type personSettings struct {
	detect                int32
	script, proxy, bypass *uint16
}

// proxyInfo is WINHTTP_PROXY_INFO.
type proxyInfo struct {
	accessType    uint32
	proxy, bypass *uint16
}

// autoproxyOptions is WINHTTP_AUTOPROXY_OPTIONS.
type autoproxyOptions struct {
	flags, detect uint32
	script        *uint16
	_             uintptr
	_             uint32
	autoLogon     int32
}

// systemQuestions asks Windows in the order of its browsers: detection, the script,
// the proxy of the person's Internet settings, and what "netsh winhttp" has set.
func systemQuestions() []question {
	var questions []question
	detect, script, proxy, bypass := internetOptions()
	if detect {
		questions = append(questions, question{FromDetection, true, func(target *url.URL) (answer, error) { return winhttpProxy("", target) }})
	}
	if script != "" {
		questions = append(questions, question{FromScript, true, func(target *url.URL) (answer, error) { return winhttpProxy(script, target) }})
	}
	if proxy != "" {
		questions = append(questions, question{FromSettings, false, func(target *url.URL) (answer, error) { return static(proxy, bypass, target) }})
	}
	return append(questions, question{FromComputer, false, func(target *url.URL) (answer, error) {
		var m proxyInfo
		if done, err := call(procMachineSettings, uintptr(unsafe.Pointer(&m))); !done {
			return answer{}, fmt.Errorf("asking for the computer's proxy: %w", err)
		}
		proxy, bypass := taken(m.proxy), taken(m.bypass)
		if m.accessType != accessTypeNamedProxy || proxy == "" {
			return answer{}, nil
		}
		return static(proxy, bypass, target)
	}})
}

const (
	optionsKey = `Software\Microsoft\Windows\CurrentVersion\Internet Settings`
	optionsGPO = `Software\Policies\Microsoft\Windows\CurrentVersion\Internet Settings`
)

// internetOptions reads the Internet settings that are in force for this person now.
// WinHTTP knows them as Windows keeps them; where it knows of no proxy, the plain values
// count, which logon scripts and group policy preferences write.
func internetOptions() (detect bool, script, proxy, bypass string) {
	var s personSettings
	if done, _ := call(procPersonSettings, uintptr(unsafe.Pointer(&s))); done {
		detect, script, proxy, bypass = s.detect != 0, taken(s.script), taken(s.proxy), taken(s.bypass)
	}
	if script != "" || proxy != "" {
		return detect, script, proxy, bypass
	}
	root := registry.CURRENT_USER
	if k, err := registry.OpenKey(registry.LOCAL_MACHINE, optionsGPO, registry.QUERY_VALUE); err == nil {
		if perUser, _, err := k.GetIntegerValue("ProxySettingsPerUser"); err == nil && perUser == 0 {
			root = registry.LOCAL_MACHINE
		}
		_ = k.Close()
	}
	k, err := registry.OpenKey(root, optionsKey, registry.QUERY_VALUE)
	if err != nil {
		return detect, "", "", ""
	}
	defer k.Close()
	// A value that is not there is empty.
	script, _, _ = k.GetStringValue("AutoConfigURL")
	if enabled, _, err := k.GetIntegerValue("ProxyEnable"); err == nil && enabled != 0 {
		proxy, _, _ = k.GetStringValue("ProxyServer")
		bypass, _, _ = k.GetStringValue("ProxyOverride")
	}
	return detect, script, proxy, bypass
}

func static(proxy, bypass string, target *url.URL) (answer, error) {
	if bypassed(bypass, target) {
		return answer{found: true}, nil
	}
	choices, err := parseProxies(proxy, target.Scheme)
	return answer{found: len(choices) > 0, choices: choices}, err
}

// scriptQuestion evaluates the policy's script by WinHTTP.
func scriptQuestion(address string) (func(*url.URL) (answer, error), error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
		return nil, errors.New("the address of the proxy script is not one of http or https")
	}
	return func(target *url.URL) (answer, error) { return winhttpProxy(address, target) }, nil
}

// winhttpProxy asks WinHTTP for a target: by the script at an address, or by
// detection where that is empty.
func winhttpProxy(script string, target *url.URL) (answer, error) {
	session, _, err := procOpenCall()
	if session == 0 {
		return answer{}, fmt.Errorf("opening WinHTTP: %w", err)
	}
	defer func() { _, _, _ = procCloseHandle.Call(session) }()
	_, _, _ = procSetTimeouts.Call(session, detectTimeout, detectTimeout, detectTimeout, detectTimeout)
	options := autoproxyOptions{flags: autoDetect, detect: detectDHCP | detectDNS}
	if script != "" {
		options = autoproxyOptions{flags: autoConfigURL}
		if options.script, err = windows.UTF16PtrFromString(script); err != nil {
			return answer{}, errors.New("the address of the proxy script cannot be used")
		}
	}
	address, err := windows.UTF16PtrFromString(target.String())
	if err != nil {
		return answer{}, errors.New("the host's name cannot be asked for")
	}
	var info proxyInfo
	ask := func() (bool, error) {
		return call(procProxyForURL, session, uintptr(unsafe.Pointer(address)), uintptr(unsafe.Pointer(&options)), uintptr(unsafe.Pointer(&info)))
	}
	done, err := ask()
	if !done && errors.Is(err, errLoginFailure) {
		// Only then: Windows keeps answers for other programs only without a logon.
		options.autoLogon = 1
		done, err = ask()
	}
	switch {
	case !done && script == "" && errors.Is(err, errAutodetectionFailed):
		return answer{}, nil
	case !done && script == "":
		return answer{}, fmt.Errorf("detecting the proxy: %w", code(err))
	case !done:
		return answer{}, fmt.Errorf("evaluating the proxy script: %w", code(err))
	}
	proxy, bypass := taken(info.proxy), taken(info.bypass)
	if info.accessType == accessTypeNoProxy || proxy == "" || bypassed(bypass, target) {
		return answer{found: true}, nil
	}
	choices, err := parseProxies(proxy, target.Scheme)
	return answer{found: true, choices: choices}, err
}

func procOpenCall() (handle, _ uintptr, err error) {
	if err := procOpen.Find(); err != nil {
		return 0, 0, err
	}
	return procOpen.Call(0, accessTypeNoProxy, 0, 0, 0)
}

// code keeps the number of an error of WinHTTP, which has no text of its own in the
// system's messages.
func code(err error) error {
	var n windows.Errno
	if errors.As(err, &n) {
		return fmt.Errorf("WinHTTP error %d", uint32(n))
	}
	return err
}

// call calls a function that answers TRUE or FALSE. Pointers among the arguments
// stay alive for the call.
//
//go:uintptrescapes
func call(p *windows.LazyProc, args ...uintptr) (bool, error) {
	if err := p.Find(); err != nil {
		return false, err
	}
	r, _, err := p.Call(args...)
	return r != 0, err
}

// taken copies a text of WinHTTP and frees it.
func taken(p *uint16) string {
	if p == nil {
		return ""
	}
	text := windows.UTF16PtrToString(p)
	_, _, _ = procGlobalFree.Call(uintptr(unsafe.Pointer(p)))
	return text
}

// addrWatch is a standing request to be told of every change of this computer's
// addresses. The event is set by each, and reset by whoever waits for it.
type addrWatch struct {
	event, notify windows.Handle
}

// addressChanged is what Windows calls, on a thread of its own. A process has one: what
// Windows may call is never given back. The event to be set comes with each call.
var addressChanged = sync.OnceValue(func() uintptr {
	return windows.NewCallback(func(event windows.Handle, _ uintptr, kind uint32) uintptr {
		// A router prolongs addresses of IPv6 every few minutes, which changes nothing.
		if kind != windows.MibParameterNotification {
			_ = windows.SetEvent(event)
		}
		return 0
	})
})

// watchNetwork says whether this computer's addresses have changed since it was last
// asked. The first question begins the watch and answers no.
// Where Windows does not take the request it always answers no: what cannot be reached
// is looked up anew in any case.
func watchNetwork() (changed func() bool, unwatch func()) {
	var w *addrWatch
	changed = func() bool {
		if w == nil {
			w = watchAddresses()
		}
		return w.signalled()
	}
	unwatch = func() {
		if w != nil {
			w.end()
		}
	}
	return changed, unwatch
}

// watchAddresses begins a watch. One that Windows does not take never has anything to
// tell.
func watchAddresses() *addrWatch {
	if procNotifyAddress.Find() != nil || procCancelNotify.Find() != nil {
		return &addrWatch{}
	}
	event, err := windows.CreateEvent(nil, 0, 0, nil)
	if err != nil {
		return &addrWatch{}
	}
	w := &addrWatch{event: event}
	if r, _, _ := procNotifyAddress.Call(windows.AF_UNSPEC, addressChanged(), uintptr(event), 0, uintptr(unsafe.Pointer(&w.notify))); r != 0 {
		_ = windows.CloseHandle(event)
		return &addrWatch{}
	}
	return w
}

func (w *addrWatch) signalled() bool {
	if w.event == 0 {
		return false
	}
	s, err := windows.WaitForSingleObject(w.event, 0)
	return err == nil && s == windows.WAIT_OBJECT_0
}

// end gives everything back. Cancelling waits for a call of Windows that is under way,
// so that none finds the event gone.
func (w *addrWatch) end() {
	if w.event == 0 {
		return
	}
	_, _, _ = procCancelNotify.Call(uintptr(w.notify))
	_ = windows.CloseHandle(w.event)
	w.event, w.notify = 0, 0
}
