package signin

// mostHint is the length of an ID token that still travels in an address, in bytes:
// Windows opens no address longer than 2,083 (INTERNET_MAX_URL_LENGTH of wininet.h).
const mostHint = 1800
