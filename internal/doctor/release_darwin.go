package doctor

const systemName = "darwin"

func release() string { return "" }
