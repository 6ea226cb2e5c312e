import { svelte } from '@sveltejs/vite-plugin-svelte';
import { svelteTesting } from '@testing-library/svelte/vite';
import type { Plugin } from 'vite';
import { defineConfig } from 'vitest/config';

// The development server sends styles in scripts and reloads over a socket,
// which the page's own rules forbid; they hold in what is built.
const withoutRulesWhileDeveloping: Plugin = {
  name: 'without-csp-while-developing',
  apply: 'serve',
  transformIndexHtml: (html) => html.replace(/<meta\s+http-equiv="Content-Security-Policy"[^>]*>/, ''),
};

export default defineConfig({
  plugins: [svelte({ configFile: false }), svelteTesting(), withoutRulesWhileDeveloping],
  build: {
    target: 'es2022',
    // A data: address would be against the page's own rules.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  test: {
    environment: 'happy-dom',
    testTimeout: 30_000, // a busy machine is no fault of the window
    include: ['src/**/*.test.ts'],
  },
});
