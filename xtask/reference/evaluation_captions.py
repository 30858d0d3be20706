def caption_cases(): return {}
