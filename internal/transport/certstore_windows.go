package transport

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/windows"
)

var (
	ncrypt         = windows.NewLazySystemDLL("ncrypt.dll")
	procSignHash   = ncrypt.NewProc("NCryptSignHash")
	procFreeObject = ncrypt.NewProc("NCryptFreeObject")
)

// Of ncrypt.h.
const (
	padPKCS1   = 0x2  // BCRYPT_PAD_PKCS1
	padPSS     = 0x8  // BCRYPT_PAD_PSS
	signSilent = 0x40 // NCRYPT_SILENT_FLAG: a prompt would wait behind the lock screen
)

// certificateFilesUsable refuses: the rights to a file cannot be read from its mode here.
func certificateFilesUsable() error {
	return errors.New("on this system the key belongs into the store of certificates")
}

// certificateStoreUsable refuses nothing.
func certificateStoreUsable() error { return nil }

// keyIsPrivate refuses, as certificateFilesUsable does.
func keyIsPrivate(os.FileInfo) error { return certificateFilesUsable() }

// authoritiesAreOurs refuses nothing: who may write a file stands in its access list,
// which is the administrator's.
func authoritiesAreOurs(os.FileInfo) error { return nil }

// openPlain opens for reading.
func openPlain(file string) (*os.File, error) { return os.Open(file) }

// storedCertificate finds a certificate by its SHA-1 thumbprint among those of the
// computer, then of the person, with the certificates between it and its root. Its
// key stays in the store, which signs for it.
func storedCertificate(hash []byte) (*tls.Certificate, error) {
	var last error
	for _, place := range []uint32{windows.CERT_SYSTEM_STORE_LOCAL_MACHINE, windows.CERT_SYSTEM_STORE_CURRENT_USER} {
		c, err := certificateIn(place, hash)
		if err == nil {
			return c, nil
		}
		if last == nil || !errors.Is(err, windows.Errno(windows.CRYPT_E_NOT_FOUND)) {
			last = err
		}
	}
	return nil, fmt.Errorf("looking for the certificate in the store: %w", last)
}

func certificateIn(place uint32, hash []byte) (*tls.Certificate, error) {
	my, err := windows.UTF16PtrFromString("MY")
	if err != nil {
		return nil, err
	}
	store, err := windows.CertOpenStore(windows.CERT_STORE_PROV_SYSTEM, 0, 0,
		place|windows.CERT_STORE_READONLY_FLAG|windows.CERT_STORE_OPEN_EXISTING_FLAG, uintptr(unsafe.Pointer(my)))
	if err != nil {
		return nil, err
	}
	defer func() { _ = windows.CertCloseStore(store, 0) }()
	blob := windows.CryptHashBlob{Size: uint32(len(hash)), Data: &hash[0]}
	found, err := windows.CertFindCertificateInStore(store, windows.X509_ASN_ENCODING|windows.PKCS_7_ASN_ENCODING, 0,
		windows.CERT_FIND_HASH, unsafe.Pointer(&blob), nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = windows.CertFreeCertificateContext(found) }()
	chain, err := chainOf(found)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return nil, errors.New("the certificate cannot be read")
	}
	key := &storeKey{public: leaf.PublicKey}
	var free bool
	if err := windows.CryptAcquireCertificatePrivateKey(found, windows.CRYPT_ACQUIRE_ONLY_NCRYPT_KEY_FLAG|windows.CRYPT_ACQUIRE_SILENT_FLAG,
		nil, &key.handle, new(uint32), &free); err != nil {
		return nil, fmt.Errorf("the store does not give its key to this user: %w", err)
	}
	if free {
		runtime.AddCleanup(key, func(h windows.Handle) { _, _, _ = procFreeObject.Call(uintptr(h)) }, key.handle)
	}
	return &tls.Certificate{Certificate: chain, Leaf: leaf, PrivateKey: key}, nil
}

// chainOf is a certificate and those between it and its root, as far as the computer
// has them; nothing is fetched from the network. The root itself is not sent.
func chainOf(c *windows.CertContext) ([][]byte, error) {
	own := [][]byte{append([]byte(nil), unsafe.Slice(c.EncodedCert, c.Length)...)}
	para := windows.CertChainPara{Size: uint32(unsafe.Sizeof(windows.CertChainPara{}))}
	var chain *windows.CertChainContext
	const fromNowhereElse = 0x4 | 0x100 // CERT_CHAIN_CACHE_ONLY_URL_RETRIEVAL, CERT_CHAIN_DISABLE_AUTH_ROOT_AUTO_UPDATE
	if windows.CertGetCertificateChain(0, c, nil, c.Store, &para, fromNowhereElse, 0, &chain) != nil {
		return own, nil // the server may have the rest itself
	}
	defer windows.CertFreeCertificateChain(chain)
	if chain.ChainCount == 0 {
		return own, nil
	}
	elements := unsafe.Slice((*unsafe.Slice(chain.Chains, chain.ChainCount)[0]).Elements, (*unsafe.Slice(chain.Chains, chain.ChainCount)[0]).NumElements)
	for _, e := range elements[min(1, len(elements)):] {
		der := append([]byte(nil), unsafe.Slice(e.CertContext.EncodedCert, e.CertContext.Length)...)
		if parsed, err := x509.ParseCertificate(der); err != nil || string(parsed.RawIssuer) == string(parsed.RawSubject) {
			break
		}
		own = append(own, der)
	}
	return own, nil
}

// storeKey signs with a key that stays in the store.
type storeKey struct {
	handle windows.Handle
	public crypto.PublicKey
}

// Public implements crypto.Signer.
func (k *storeKey) Public() crypto.PublicKey { return k.public }

// pssInfo and pkcs1Info are BCRYPT_PSS_PADDING_INFO and BCRYPT_PKCS1_PADDING_INFO.
type pssInfo struct {
	hash *uint16
	salt uint32
}

type pkcs1Info struct{ hash *uint16 }

// Sign implements crypto.Signer: RSA with PSS or PKCS #1 v1.5, and ECDSA, as TLS
// 1.2 and 1.3 ask for them.
func (k *storeKey) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	name, ok := map[crypto.Hash]string{crypto.SHA1: "SHA1", crypto.SHA256: "SHA256", crypto.SHA384: "SHA384", crypto.SHA512: "SHA512"}[opts.HashFunc()]
	if !ok || len(digest) != opts.HashFunc().Size() {
		return nil, errors.New("signing with the store's key: the hash is not one of its")
	}
	algorithm, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return nil, err
	}
	defer runtime.KeepAlive(k)
	switch public := k.public.(type) {
	case *rsa.PublicKey:
		if pss, ok := opts.(*rsa.PSSOptions); ok {
			salt := pss.SaltLength
			switch salt {
			case rsa.PSSSaltLengthEqualsHash:
				salt = opts.HashFunc().Size()
			case rsa.PSSSaltLengthAuto:
				salt = (public.N.BitLen()-1+7)/8 - 2 - opts.HashFunc().Size()
			}
			return k.sign(unsafe.Pointer(&pssInfo{hash: algorithm, salt: uint32(salt)}), digest, padPSS)
		}
		return k.sign(unsafe.Pointer(&pkcs1Info{hash: algorithm}), digest, padPKCS1)
	case *ecdsa.PublicKey:
		raw, err := k.sign(nil, digest, 0)
		if err != nil {
			return nil, err
		}
		return derSignature(raw)
	}
	return nil, errors.New("signing with the store's key: its kind is neither RSA nor ECDSA")
}

// derSignature turns r and s in equal halves, as CNG writes them, into what TLS
// sends (RFC 3279 section 2.2.3).
func derSignature(raw []byte) ([]byte, error) {
	if len(raw) == 0 || len(raw)%2 != 0 {
		return nil, errors.New("signing with the store's key: the signature is not two numbers")
	}
	half := len(raw) / 2
	return asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(raw[:half]), new(big.Int).SetBytes(raw[half:])})
}

func (k *storeKey) sign(padding unsafe.Pointer, digest []byte, flags uintptr) ([]byte, error) {
	if err := procSignHash.Find(); err != nil {
		return nil, err
	}
	signature := make([]byte, 1024) // RSA of 8,192 bits
	var n uint32
	r, _, _ := procSignHash.Call(uintptr(k.handle), uintptr(padding), uintptr(unsafe.Pointer(&digest[0])), uintptr(len(digest)),
		uintptr(unsafe.Pointer(&signature[0])), uintptr(len(signature)), uintptr(unsafe.Pointer(&n)), flags|signSilent)
	if r != 0 || int(n) > len(signature) {
		return nil, fmt.Errorf("signing with the store's key: status %#x", uint32(r))
	}
	return signature[:n], nil
}
