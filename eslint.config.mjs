import js from "@eslint/js";

export default [
  { ignores: [".venv/", "tests/vendor/", "tests/bench/peers/"] },
  js.configs.recommended,
  {
    rules: {
      "no-control-regex": "off", // what steers a terminal is taken out of names and text
      "no-undef": "off", // the type checker's: it knows a browser's names
      "no-unused-vars": ["error", { ignoreRestSiblings: true }], // `{ type, ...words }`
    },
  },
];
